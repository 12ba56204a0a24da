"""Store and forward: every result onto the disk first, then to an MQTT broker, at least once."""

from edgesdk.telemetry.service import Stats, Telemetry
from edgesdk.telemetry.settings import MqttSettings, OutboxSettings, TelemetrySettings

__all__ = ["MqttSettings", "OutboxSettings", "Stats", "Telemetry", "TelemetrySettings"]
