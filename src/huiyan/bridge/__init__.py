"""Our attention inside models of `transformers`: kernels and lazy maps for families that Huiyan does not have.

Importing this room registers ``attn_implementation="huiyan"``::

    import huiyan.bridge
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="huiyan")

``attach(model)`` does the same for a model that is there already, and refuses one that would not use it.
"""

from huiyan.core.errors import MissingExtraError

try:
    from huiyan.bridge.implementation import NAME, attach
except ImportError as error:
    if "transformers" not in str(error):
        raise
    raise MissingExtraError("huiyan.bridge", extra="bridge") from error

__all__ = ["NAME", "attach"]
