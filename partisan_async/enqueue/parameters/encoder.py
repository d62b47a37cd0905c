"""Writes a call as the JSON to store, checked against the signature of ``run()``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from partisan_async.enqueue.arguments import quoted, require_text
from partisan_async.enqueue.parameters.binding import Binding
from partisan_async.enqueue.parameters.parameter import Parameter
from partisan_async.enqueue.parameters.plain import PlainCalls, plain_kinds


class Encoder:
    """Stores the calls of one processor.

    :param by_name: its parameters.
    """

    def __init__(
        self, processor_name: str, binding: Binding, by_name: Mapping[str, Parameter]
    ) -> None:
        self._processor_name = processor_name
        self._binding = binding
        self._by_name = by_name
        kinds = {name: plain_kinds(each.hint) for name, each in by_name.items()}
        self._plain = PlainCalls(binding, kinds)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return a call as canonical JSON; see ``Parameters.encode``."""
        return self._plain.encode(args, kwargs) or self._encode_any(args, kwargs)

    def _encode_any(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the JSON of any call, or raise; most calls do not need this slow way."""
        if fault := self._binding.fault(len(args), kwargs):
            end = "" if fault.endswith("?") else "."
            raise TypeError(f"{self._processor_name}: {fault}{end}")
        try:
            texts = [self._text(position, value) for position, value in enumerate(args)]
            pairs = []
            for name in sorted(kwargs):
                require_text(name, f"the name {name!r}")
                pairs.append(f"{quoted(name)}:{self._text(name, kwargs[name])}")
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self._processor_name}: {error}") from None
        return f'{{"args":[{",".join(texts)}],"kwargs":{{{",".join(pairs)}}}}}'

    def _text(self, place: int | str, value: Any) -> str:
        name = self._binding.owner(place) or ""
        if isinstance(place, int) and name == self._binding.rest:
            shown = f"{name}[{place - len(self._binding.positional)}]"
        else:
            shown = name if place == name or isinstance(place, int) else f"{name}[{place!r}]"
        return self._by_name[name].encode(value, shown)
