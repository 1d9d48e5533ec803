"""Claims that find something at once, for tests of what is done with them."""

from promptreach.certificate import Evidence
from promptreach.claims import Claim, ClaimVerdict
from promptreach.claims.claim import Outcome, Setting
from promptreach.report.findings import Curve, Series


def made_up(verdict: ClaimVerdict, needs: tuple[str, ...] = ()) -> Claim:
    """A claim that finds `verdict` at once."""

    def run(setting: Setting) -> Outcome:
        figure = Curve(title="A point", x_label="x", y_label="y", series=[Series(name="one", x=[1.0], y=[2.0])])
        numbers = {"seed": setting.seed, "size": setting.pick("quick", "full")}
        return Outcome(verdict, "It was said so.", Evidence.MEASURED, (), numbers, figure)

    return Claim("Z1", "Made up", "nobody", "Nothing is claimed.", run, needs)
