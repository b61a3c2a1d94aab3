"""The street that ``StreetClips`` films: what stands there, how it looks, and the camera driving through."""
