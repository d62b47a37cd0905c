"""The names of the pauses between retries."""

from typing import Final, Literal

DelayStrategy = Literal["I", "C", "E"]

DELAY_STRATEGY_INCREMENTAL: Final = "I"
"""Each pause is ``retry_pause`` longer than the one before: 3, 6, 9 seconds for 3."""

DELAY_STRATEGY_CONSTANT: Final = "C"
"""Each pause is ``retry_pause``."""

DELAY_STRATEGY_EXPONENTIAL: Final = "E"
"""Each pause is twice the one before: 3, 6, 12 seconds for 3."""

DELAY_STRATEGIES: Final = (
    DELAY_STRATEGY_INCREMENTAL,
    DELAY_STRATEGY_CONSTANT,
    DELAY_STRATEGY_EXPONENTIAL,
)
