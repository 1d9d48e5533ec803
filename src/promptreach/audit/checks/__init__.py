"""The checks of an audit: each measures one thing and shows it. A new check is one file and one entry here.

They run in this order, which is that of the diagnosis's steps with the audit's own between them; a later one may use
what an earlier one left in the context.
"""

from promptreach.audit.check import Check, shows
from promptreach.audit.checks import (
    _attempt,
    _bare_model,
    _initialisation,
    _training,
    answers,
    attention_share,
    data,
    estimate,
    first_look,
    inference_cost,
    limits,
    prediction,
    weight_change,
)
from promptreach.diagnosis.steps import (
    ATTEMPT,
    BARE_MODEL,
    BROUGHT,
    COLLAPSE,
    DATA,
    FORGETTING,
    INITIALISATION,
    ONE_LAYER,
    PARTS,
    PLANTED,
    SEEDS,
    TRAINING,
)

CHECKS = (
    Check(DATA.name, "The data", shows(DATA, data.show)),
    Check(PARTS.name, "The parts of the data", shows(PARTS, data.show_parts)),
    Check(BARE_MODEL.name, "The model without a prompt", shows(BARE_MODEL, _bare_model.show)),
    Check(first_look.NAME, "First look", first_look.measure, "There was nothing to look at.", tell=True),
    Check(TRAINING.name, "Matched training", shows(TRAINING, _training.show)),
    Check("answers", "Rows as they were answered", answers.measure, "Nothing was trained that could answer."),
    Check(
        BROUGHT.name,
        "Your adapter itself",
        shows(BROUGHT, _attempt.show_brought, without_user="No adapter was given."),
        "No adapter was given.",
    ),
    Check(SEEDS.name, "What a seed is worth", shows(SEEDS, _training.show_seeds), "One seed was trained."),
    Check(INITIALISATION.name, "Where the virtual tokens start", shows(INITIALISATION, _initialisation.show)),
    Check(ATTEMPT.name, "What your adapter lost, and where", _attempt.measure, "No adapter was given."),
    Check(
        COLLAPSE.name,
        "How your adapter spreads its answers",
        shows(COLLAPSE, _attempt.show_collapse, without_user="No adapter was given."),
        "No classifier was given.",
    ),
    Check(
        ONE_LAYER.name,
        "What no prompt can do in one layer",
        shows(ONE_LAYER, _training.show_one_layer),
        "The oracle was not asked.",
    ),
    Check(
        PLANTED.name,
        "Does training find a prompt that exists?",
        shows(PLANTED, _training.show_planted),
        "No prompt was planted.",
    ),
    Check("prediction", "What was predicted before training", prediction.measure, "Nothing was predicted."),
    Check(FORGETTING.name, "What tuning does to other text", shows(FORGETTING, _training.show_forgetting)),
    Check(
        "attention_share",
        "Attention taken by the prompt",
        attention_share.measure,
        "There is no trained prompt to look at.",
    ),
    Check(
        "weight_change",
        "What the prompt is worth as a change of weights",
        weight_change.measure,
        "There is no trained prompt to look at.",
    ),
    Check("limits", "What no prompt can do", limits.measure),
    Check("inference_cost", "What inference will cost", inference_cost.measure, "There is no adapter to look at."),
    Check("estimate", "What it was expected to take", estimate.measure, "There is nothing to compare."),
)
