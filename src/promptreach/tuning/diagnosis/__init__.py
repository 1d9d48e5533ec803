"""Expressivity, optimisation or data: measurers that find numbers, and rules that turn them into a verdict."""

from promptreach.tuning.diagnosis.diagnose import Diagnosis as Diagnosis
from promptreach.tuning.diagnosis.diagnose import diagnose as diagnose
from promptreach.tuning.diagnosis.study import Measured as Measured
from promptreach.tuning.diagnosis.study import Study as Study
from promptreach.tuning.diagnosis.verdict import Attempt as Attempt
from promptreach.tuning.diagnosis.verdict import Judgement as Judgement
from promptreach.tuning.diagnosis.verdict import Reason as Reason
from promptreach.tuning.diagnosis.verdict import TuningVerdict as TuningVerdict
