"""The guard: no variant is kept that is worse, or slower, than was promised."""

from edgesdk_converters.guard.budget import AGREEMENT_LIMIT, SNR_LIMIT_DB, Budget
from edgesdk_converters.guard.fidelity import FidelityMeter, snr_db
from edgesdk_converters.guard.latency import ALLOWANCE, measure
from edgesdk_converters.guard.memory import peak_memory

__all__ = [
    "AGREEMENT_LIMIT",
    "ALLOWANCE",
    "SNR_LIMIT_DB",
    "Budget",
    "FidelityMeter",
    "measure",
    "peak_memory",
    "snr_db",
]
