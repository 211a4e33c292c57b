"""The chapters of `enerjax tour`, one per pillar: `chapter(seed, say) -> Chapter`."""

NAMES = ("atoms", "solids", "posterior", "motion")
