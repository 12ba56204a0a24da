"""Every exception and warning of edgesdk, in one tree. Imports nothing, so that anything may import it.

Each class derives from the built-in it resembles, carries its data as attributes, and its text says what happened,
where, what was got, what was expected, and the fix.
"""


class EdgeSdkError(Exception):
    """Root of every error that edgesdk raises on purpose."""


# -- files that people write ---------------------------------------------------------------------------------------


class ConfigError(EdgeSdkError, ValueError):
    """A YAML file (profile, app, model spec, recipe) is wrong; all its problems at once.

    Attributes:
        problems: One line each, ``file:line: what, expected, fix``.
    """

    def __init__(self, problems: "tuple[str, ...] | list[str]") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ProfileError(ConfigError):
    """A device profile is wrong."""


class ProfileNotFoundError(EdgeSdkError, LookupError):
    """No device profile has this id."""


# -- bundles -------------------------------------------------------------------------------------------------------


class BundleError(EdgeSdkError, ValueError):
    """A bundle cannot be read or written."""


class BundleUnsafeError(BundleError):
    """A bundle tries to leave its folder, hides a link, or is larger than its bounds."""


class BundleIntegrityError(BundleError):
    """A file of the bundle does not have the size or sha256 that the manifest names."""


class BundleVersionError(BundleError):
    """The bundle's schema is newer than this edgesdk reads."""


# -- running models ------------------------------------------------------------------------------------------------


class BackendError(EdgeSdkError, RuntimeError):
    """An inference runtime failed to load or run a model."""


class BackendUnavailableError(BackendError, ImportError):
    """A backend's runtime is not installed, or does not work on this machine; the text has the pip line."""


class NoBackendError(BackendError, LookupError):
    """No candidate of the profile's list can run any variant of this bundle.

    Attributes:
        reasons: One line for each candidate that fell away.
    """

    def __init__(self, message: str, reasons: "tuple[str, ...]" = ()) -> None:
        self.reasons = reasons
        super().__init__("\n  ".join((message, *reasons)))


class TaskError(EdgeSdkError, ValueError):
    """A model's outputs do not fit the task that its manifest names, or an input does not fit the model."""


class PluginError(EdgeSdkError, LookupError):
    """An entry point is unknown, registered twice, or cannot be loaded."""


class MissingExtraError(EdgeSdkError, ImportError):
    """An optional dependency is not installed; the text has the pip line."""


# -- the running app -----------------------------------------------------------------------------------------------


class SourceError(EdgeSdkError, OSError):
    """A camera, microphone or file cannot be opened or stopped delivering; the app retries it with back-off."""


class SourceFormatError(SourceError):
    """A file is there, but is not what the source can read; retrying does not help."""


class TelemetryError(EdgeSdkError, RuntimeError):
    """The outbox or the MQTT session cannot do what was asked."""


class OutboxFullError(TelemetryError):
    """The outbox's bound (or the disk) is reached, and its rule does not allow dropping."""


class PayloadTooLargeError(TelemetryError, ValueError):
    """A result does not fit the payload limit of contract 3 (128 KB)."""


# -- the developer side --------------------------------------------------------------------------------------------


class ConversionError(EdgeSdkError, ValueError):
    """A model cannot be converted."""


class NodeProblem:
    """One node of a model that the target format cannot express.

    Attributes:
        node: Its name, or the name of its first output.
        op_type: Its operator.
        reason: Why not.
        fix: What to do about it; empty where nothing is known.
    """

    __slots__ = ("fix", "node", "op_type", "reason")

    def __init__(self, node: str, op_type: str, reason: str, fix: str = "") -> None:
        self.node, self.op_type, self.reason, self.fix = node, op_type, reason, fix

    def __str__(self) -> str:
        return f"{self.op_type} {self.node!r}: {self.reason}.{f' {self.fix}.' if self.fix else ''}"

    def __repr__(self) -> str:
        return f"NodeProblem({self})"


class NotExpressibleError(ConversionError):
    """A model has operators that TFLite cannot express; all of them at once, and nothing was written.

    Attributes:
        nodes: One entry for each.
    """

    def __init__(self, file: str, nodes: "tuple[NodeProblem, ...]") -> None:
        self.nodes = nodes
        count = "one node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        super().__init__("\n  ".join((f"{file}: TFLite cannot express {count}:", *(str(node) for node in nodes))))


class PassError(ConversionError):
    """A pass failed, or broke a claim.

    Attributes:
        failed: Name of the pass.
        done: Names of those that had run before it, in order.
    """

    def __init__(self, message: str, failed: str, done: "tuple[str, ...]") -> None:
        self.failed, self.done = failed, done
        before = f"after: {', '.join(done)}" if done else "the first one"
        super().__init__(f"{message}\n  (in pass {failed!r}; {before})")


class ModelFormatError(ConversionError):
    """A file is no model of the format it claims, is truncated, or uses an unsupported version."""


class CalibrationError(ConversionError):
    """The calibration folder is empty, unreadable, or does not fit the model's inputs."""


class GuardError(ConversionError):
    """A variant failed the guard.

    Attributes:
        reasons: One line for each limit that was missed.
    """

    def __init__(self, message: str, reasons: "tuple[str, ...]" = ()) -> None:
        self.reasons = reasons
        super().__init__("\n  ".join((message, *reasons)))


class ZooError(EdgeSdkError, RuntimeError):
    """A zoo model cannot be fetched, or is not the file that its sha256 pins."""


# -- warnings ------------------------------------------------------------------------------------------------------


class EdgeSdkWarning(UserWarning):
    """Root of every warning of edgesdk."""


class BackendFallbackWarning(EdgeSdkWarning):
    """A preferred backend or variant fell away; the text says which and why."""


class PromiseWarning(EdgeSdkWarning):
    """A measured promise of the bundle (a faster variant) does not hold on this board."""


class AssumptionWarning(EdgeSdkWarning):
    """Something was not stated and a default was taken; it is recorded."""


class SourceWarning(EdgeSdkWarning):
    """A source adapted its input (resampled, mixed down), or was lost and is being retried."""
