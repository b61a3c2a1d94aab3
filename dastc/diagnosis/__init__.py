"""What happens inside an adaptation: how good its labels are, where its classes lie, what its losses pull at."""

from dastc.diagnosis.class_geometry import class_geometry
from dastc.diagnosis.label_quality import disagreement, label_quality
from dastc.diagnosis.loss_gradients import loss_gradients
from dastc.diagnosis.pasted_shares import pasted_shares

__all__ = ["class_geometry", "disagreement", "label_quality", "loss_gradients", "pasted_shares"]
