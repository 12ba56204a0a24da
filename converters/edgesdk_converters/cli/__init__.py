"""Commands that the converters add to `edgesdk`."""
