"""`edgesdk demo`: real models on real input, and every result at a subscriber, without any configuration."""

from edgesdk.demo.plan import DemoModel, Prepared, app_yaml
from edgesdk.demo.runner import Outcome, run_demo

__all__ = ["DemoModel", "Outcome", "Prepared", "app_yaml", "run_demo"]
