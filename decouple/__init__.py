"""decouple: train networks by searching representations and learning them.

>>> import decouple
>>> decouple.preset("digits").data.name
'digits'
"""

import lazy_loader

from decouple._version import __version__ as __version__

# Names are imported when first used, so that the command line answers before torch is loaded.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
