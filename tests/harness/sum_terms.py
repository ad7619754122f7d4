"""What four sites agree on before a secure sum."""

from willis.shared.secure_sum.terms import SumTerms

SITES = ("east", "north", "south", "west")


def terms(**changes) -> SumTerms:
    fields = {
        "run": "run-1",
        "round": 1,
        "order_digest": "0" * 64,
        "sites": SITES,
        "quorum": 3,
        "colluders": 1,
        "length": 20,
        "clip_norm": 1.0,
        "noise_multiplier": 2.0,
    }
    return SumTerms(**(fields | changes))
