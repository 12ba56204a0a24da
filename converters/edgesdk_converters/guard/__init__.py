"""The guard: no variant is kept that is worse, or slower, than was promised."""

from edgesdk_converters.guard.fidelity import AGREEMENT_LIMIT, SNR_LIMIT_DB, FidelityMeter, snr_db
from edgesdk_converters.guard.latency import ALLOWANCE, measure

__all__ = ["AGREEMENT_LIMIT", "ALLOWANCE", "SNR_LIMIT_DB", "FidelityMeter", "measure", "snr_db"]
