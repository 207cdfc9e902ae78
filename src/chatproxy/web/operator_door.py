"""Who asks on the admin listener, and how often may somebody there guess?

1. A token that is wrong counts against the address that it came from. From an address with too many of them no token is
   looked at for some seconds, a right one neither, or its answer would tell that it was right.
2. Whoever has come from there before with a right token passes all the same: guesses of others who share the address,
   such as that of a front, keep nobody out who is at work.
3. Who says nothing guesses nothing, and certificates cannot be guessed.
"""

from collections import OrderedDict

from starlette.requests import Request

from chatproxy.clock import Clock
from chatproxy.identities.operators import Operator, Operators
from chatproxy.rates import Buckets, Rate, TooOftenError
from chatproxy.telemetry import Metrics
from chatproxy.web.client_address import Network, client_network
from chatproxy.web.client_call import CLIENT_CERTIFICATE

GUESSES = Rate(10, 60_000)
"""How many wrong tokens may come from one address."""
_MOST_KNOWN = 10_000
"""Of how many pairs of address and name it is remembered that they have come."""


class OperatorDoor:
    """Tells who asks, and slows down who guesses."""

    def __init__(
        self, operators: Operators, *, clock: Clock, metrics: Metrics, trusted: tuple[Network, ...] = ()
    ) -> None:
        """``trusted``: fronts, which say where a request comes from."""
        self._operators = operators
        self._clock = clock
        self._metrics = metrics
        self._trusted = trusted
        self._guesses = Buckets[str](GUESSES)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def is_anybody_known(self) -> bool:
        """Return whether anybody can authenticate at all."""
        return self._operators.is_anybody_known

    def operator_of(self, request: Request) -> Operator | None:
        """Return who asks; None: nobody who is known. Raises TooOftenError.

        A token that came must be right, whatever certificate came too.
        """
        given = request.headers.getlist("authorization")
        if not given:
            return self._operators.by_certificate(request.scope.get(CLIENT_CERTIFICATE))
        operator = self._operators.by_authorization(given[0]) if len(given) == 1 else None
        address, now = client_network(request, self._trusted), self._clock()
        if operator is not None and (address, operator.name) in self._known:
            return operator
        if wait := self._guesses.wait(address, now=now):
            self._metrics.rate_limited.labels("admin").inc()
            raise TooOftenError(wait)
        if operator is None:
            self._guesses.take(address, now=now)
            self._metrics.admin_refused.inc()
            return None
        self._known[address, operator.name] = None
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return operator
