"""Category-aware aggregation of deep features over space and time."""

from dastc._core.moved import moved
from dastc.aggregation.category_aggregator import CategoryAggregator
from dastc.aggregation.category_memory import CategoryMemory

__all__ = ["CategoryAggregator", "CategoryMemory"]

__getattr__ = moved(
    __name__,
    {
        "dastc.aggregation.category_aggregator": "AggregationWeights",
    },
)
