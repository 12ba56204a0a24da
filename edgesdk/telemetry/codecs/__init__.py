"""How a stored record becomes an MQTT message. A codec is an entry point of group `edgesdk.codecs`."""
