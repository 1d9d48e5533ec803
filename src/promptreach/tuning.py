"""The public names of training, prediction, diagnosis and capacity, in one place: `promptreach.tuning`."""

from promptreach.backbone import Backbone as Backbone
from promptreach.capacity.capacity import capacity as capacity
from promptreach.capacity.memorise import MemorySettings as MemorySettings
from promptreach.capacity.reach import ReachedShare as ReachedShare
from promptreach.capacity.reach import reached_share as reached_share
from promptreach.capacity.result import Capacity as Capacity
from promptreach.diagnosis.diagnose import Diagnosis as Diagnosis
from promptreach.diagnosis.diagnose import diagnose as diagnose
from promptreach.diagnosis.verdict import Attempt as Attempt
from promptreach.prediction.forecast import Prediction as Prediction
from promptreach.prediction.predict import predict as predict
from promptreach.report.verdict import TuningVerdict as TuningVerdict
from promptreach.training.fit import fit as fit
from promptreach.training.methods.budget import MethodSize as MethodSize
from promptreach.training.methods.budget import equal_sizes as equal_sizes
from promptreach.training.methods.methods import METHODS as METHODS
from promptreach.training.methods.methods import UNIPELT_SIZES as UNIPELT_SIZES
from promptreach.training.runs import Run as Run
from promptreach.training.runs import RunConfig as RunConfig
from promptreach.training.runs import RunStore as RunStore
from promptreach.training.runs import applied as applied
from promptreach.training.task.limits import Limits as Limits
from promptreach.training.task.metric_names import TEXT_METRICS as TEXT_METRICS
from promptreach.training.task.task import prepare as prepare
