"""Shows what a conversion did: a summary in plain text, and a record as JSON and as one HTML file."""

from edgesdk_converters.report.summary import advice, summary

__all__ = ["advice", "summary"]
