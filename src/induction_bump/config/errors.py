"""What a user got wrong in a config."""


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key, the value and what is allowed, in one or two lines."""
