"""Label selectors: Calico's grammar, its canonical form, and whether labels match.

In: text. Out: a `Selector`. Not here: sets of resources by label, and what a selector is used for.
"""

from __future__ import annotations

from tortie.selector.parser import ALL, parse
from tortie.selector.selector import Selector

__all__ = ["ALL", "Selector", "parse"]
