"""Next-token prediction: a text as token files and streams, and a small GPT."""

from decouple.text.corpus import Corpus, load_corpus
from decouple.text.gpt import Gpt
from decouple.text.stream import Documents, TokenStream

__all__ = ["Corpus", "Documents", "Gpt", "TokenStream", "load_corpus"]
