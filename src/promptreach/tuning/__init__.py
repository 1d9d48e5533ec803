"""Training prompts and their rivals."""

from promptreach.tuning.backbone import Backbone as Backbone
from promptreach.tuning.budget import MethodSize as MethodSize
from promptreach.tuning.budget import equal_sizes as equal_sizes
from promptreach.tuning.diagnosis import Attempt as Attempt
from promptreach.tuning.diagnosis import Diagnosis as Diagnosis
from promptreach.tuning.diagnosis import TuningVerdict as TuningVerdict
from promptreach.tuning.diagnosis import diagnose as diagnose
from promptreach.tuning.fit import fit as fit
from promptreach.tuning.forecast import Prediction as Prediction
from promptreach.tuning.memory.capacity import capacity as capacity
from promptreach.tuning.memory.memorise import MemorySettings as MemorySettings
from promptreach.tuning.memory.result import Capacity as Capacity
from promptreach.tuning.methods import METHODS as METHODS
from promptreach.tuning.methods import UNIPELT_SIZES as UNIPELT_SIZES
from promptreach.tuning.predict import predict as predict
from promptreach.tuning.runs import Run as Run
from promptreach.tuning.runs import RunConfig as RunConfig
from promptreach.tuning.runs import RunStore as RunStore
from promptreach.tuning.runs import applied as applied
from promptreach.tuning.task import Limits as Limits
from promptreach.tuning.task import prepare as prepare
