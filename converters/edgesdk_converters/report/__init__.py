"""Shows what a conversion did: a summary in plain text, and a record as JSON and as one HTML file."""

from edgesdk_converters.report.build import contents_of, record_of
from edgesdk_converters.report.examples import make_examples, pick_samples
from edgesdk_converters.report.summary import advice, summary
from edgesdk_converters.report.write import read_record, record_schema, write_report

__all__ = [
    "advice",
    "contents_of",
    "make_examples",
    "pick_samples",
    "read_record",
    "record_of",
    "record_schema",
    "summary",
    "write_report",
]
