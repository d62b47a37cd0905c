"""A call to its stored JSON, checked against the signature of ``run()``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from partisan_async.enqueue.arguments import _quoted, _require_text
from partisan_async.enqueue.parameters.binding import Binding
from partisan_async.enqueue.parameters.parameter import Parameter


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
        self._plain = [by_name[name].plain for name in binding.positional]
        self._must = [must for must, _ in binding.after]
        self._named = [
            {name: (f"{_quoted(name)}:", by_name[name].plain) for name in may}
            for _, may in binding.after
        ]

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return a call as canonical JSON; see ``Parameters.encode``."""
        # In one frame, for the calls that nothing is wrong with: each is asked for by a request.
        count = len(args)
        if count <= len(self._plain) and (not self._must[count] or kwargs):
            texts = []
            for plain, value in zip(self._plain, args):  # noqa: B905  strict= costs a tenth of all
                texts.append(plain(value))
            if not kwargs:
                if None not in texts:
                    return f'{{"args":[{",".join(texts)}],"kwargs":{{}}}}'
            ...
        return self._encode_any(args, kwargs)

    def _encode_any(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the JSON of any call, or raise; most calls do not come here."""
        if fault := self._binding.fault(len(args), kwargs):
            raise TypeError(f"{self._processor_name}: {fault}.")
        try:
            texts = [self._text(position, value) for position, value in enumerate(args)]
            pairs = []
            for name in sorted(kwargs):
                _require_text(name, f"the name {name!r}")
                pairs.append(f"{_quoted(name)}:{self._text(name, kwargs[name])}")
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{self._processor_name}: {error}") from None
        return f'{{"args":[{",".join(texts)}],"kwargs":{{{",".join(pairs)}}}}}'

    def _text(self, place: int | str, value: Any) -> str:
        parameter = self._by_name[self._binding.owner(place) or ""]
        if place == parameter.name or isinstance(place, int):
            name = parameter.name
            if name == self._binding.rest:
                name = f"{name}[{int(place) - len(self._by_position)}]"
        else:
            name = f"{parameter.name}[{place!r}]"
        return parameter.plain(value) or parameter.encode(value, name)
