"""How activation ranges are chosen: a seam, entry-point group `edgesdk_converters.calibrators`."""

from edgesdk_converters.quantize.calibrators.api import CALIBRATORS, Calibrator, make_calibrator

__all__ = ["CALIBRATORS", "Calibrator", "make_calibrator"]
