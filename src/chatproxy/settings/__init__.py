"""What the operator has decided, read once: environment over file over built-in.

A setting is one field of ``Settings``: its name in upper case after ``CHATPROXY_`` is the environment variable, in
lower case it is the key in the TOML file. All problems are reported together, each naming the variable, where the
value came from, and the accepted form. Values of secrets are never shown.
"""

from chatproxy.settings.forms import Address
from chatproxy.settings.loading import Loaded, load_settings, other_variables, read_variable, shown
from chatproxy.settings.table import DEFAULT_NOTICES, PREFIX, Settings

__all__ = [
    "DEFAULT_NOTICES",
    "PREFIX",
    "Address",
    "Loaded",
    "Settings",
    "load_settings",
    "other_variables",
    "read_variable",
    "shown",
]
