"""What happens inside an adaptation: how good its labels are, where its classes lie, what its losses pull at."""

from dastc.diagnosis.inside import class_geometry, disagreement, label_quality, loss_gradients, pasted_shares

__all__ = ["class_geometry", "disagreement", "label_quality", "loss_gradients", "pasted_shares"]
