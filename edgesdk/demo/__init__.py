"""`edgesdk demo`: real models on real input, and every result at a subscriber, without any configuration."""

from edgesdk.demo.plan import DemoModel, Prepared, app_yaml

__all__ = ["DemoModel", "Prepared", "app_yaml"]
