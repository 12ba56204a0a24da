"""The declarative app: `app.yaml` is sources, models and streams; `App` runs it until it ends or is stopped."""

from edgesdk.app.config import AppConfig, app_json_schema
from edgesdk.app.loading import load_config
from edgesdk.app.runtime import App

__all__ = ["App", "AppConfig", "app_json_schema", "load_config"]
