"""Training prompts and their rivals."""

from promptreach.tuning.backbone import Backbone as Backbone
from promptreach.tuning.fit import fit as fit
from promptreach.tuning.forecast import Prediction as Prediction
from promptreach.tuning.methods import METHODS as METHODS
from promptreach.tuning.predict import predict as predict
from promptreach.tuning.runs import Run as Run
from promptreach.tuning.runs import RunConfig as RunConfig
from promptreach.tuning.runs import RunStore as RunStore
from promptreach.tuning.task import Limits as Limits
from promptreach.tuning.task import prepare as prepare
