"""Learning commentaries: gradients of a validation loss through a student's training.

`learn` runs the outer loop. How the hypergradient is found is a value: `Unrolled` (exact, in the memory it is given) or
`Implicit` with an inverse. `learn_episodes` does the same over few-shot episodes (MAML, ANIL, iMAML). The room knows no
files: checkpoints go to a sink.
"""

from commentary_hub.learning._adaptation import Adaptation, EpisodeTraining, initialisation_of
from commentary_hub.learning._augmentation import crop_and_flip
from commentary_hub.learning._checkpoint import Checkpoint, Sink
from commentary_hub.learning._combine import combine
from commentary_hub.learning._device import find_device
from commentary_hub.learning._episodes import Episode, Episodes, check_new_classes
from commentary_hub.learning._error import hypergradient_error
from commentary_hub.learning._few_shot import FewShotLearned, learn_episodes
from commentary_hub.learning._hypergradient import Hypergradient, Method
from commentary_hub.learning._implicit import Implicit
from commentary_hub.learning._inverse import ConjugateGradient, Identity, Inverse, Neumann
from commentary_hub.learning._optimisers import SGD, Adam, AdamW, InnerOptimiser
from commentary_hub.learning._outer import EarlyStop, learn
from commentary_hub.learning._problem import Augmentation, Problem, Slope, State, Training, advance, draw_batches
from commentary_hub.learning._progress import Progress, Report, tensorboard
from commentary_hub.learning._result import Learned, Student
from commentary_hub.learning._run import Population
from commentary_hub.learning._unrolled import Unrolled

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Adaptation",
    "Augmentation",
    "Checkpoint",
    "ConjugateGradient",
    "EarlyStop",
    "Episode",
    "EpisodeTraining",
    "Episodes",
    "FewShotLearned",
    "Hypergradient",
    "Identity",
    "Implicit",
    "InnerOptimiser",
    "Inverse",
    "Learned",
    "Method",
    "Neumann",
    "Population",
    "Problem",
    "Progress",
    "Report",
    "Sink",
    "Slope",
    "State",
    "Student",
    "Training",
    "Unrolled",
    "advance",
    "check_new_classes",
    "combine",
    "crop_and_flip",
    "draw_batches",
    "find_device",
    "hypergradient_error",
    "initialisation_of",
    "learn",
    "learn_episodes",
    "tensorboard",
]
