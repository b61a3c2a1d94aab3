"""Pictures of frames and labels."""
