"""What every operation can reach: the services of the worker, and the gate to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fs9.http.gate import Gate
from fs9.http.limiting import Limiting
from fs9.http.observed import ObservedGate

if TYPE_CHECKING:
    from fs9.limits import Limits
    from fs9.services import Services


@dataclass(frozen=True, slots=True)
class Context:
    services: Services
    gate: Gate
    limits: Limits
    limiting: Limiting

    @classmethod
    def of(cls, services: Services) -> Context:
        gate = ObservedGate(services) if services.observed else Gate(services)
        return cls(services, gate, services.limits, Limiting(services, gate))
