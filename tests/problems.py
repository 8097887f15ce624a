"""Problems whose hypergradients are known: closed forms, central differences, and small trainings to try methods on."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import nn

from commentary_hub.commentaries import Blend, Commentary, ExampleWeights, Stage, cross_entropy
from commentary_hub.data import Examples, content_keys
from commentary_hub.learning import SGD, Slope, State, Training, advance, draw_batches

CLASSES = 3


def _quadratic_matrix(size, condition, generator):
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return basis @ torch.diag(torch.linspace(1.0, condition, size, dtype=torch.float64)) @ basis.T


class Quadratic:
    """L_T = ½(θ−φ)ᵀA(θ−φ) by gradient descent with rate η; L_V = ½‖θ−c‖². Everything is known:

    θ_T = φ + Mᵀ(θ₀−φ) with M = (I−ηA)^T; dL_V/dφ = (I−M)(θ_T−c); with K Neumann terms (I−(I−ηA)^K)(θ_T−c).
    """

    affine, penalty = True, 0.0

    def __init__(self, steps=7, rate=0.1, size=5, condition=4.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.matrix = _quadratic_matrix(size, condition, generator)
        self.target = torch.randn(size, generator=generator, dtype=torch.float64)
        self.phi = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
        self.first = torch.randn(size, generator=generator, dtype=torch.float64)
        self.steps, self.rate = steps, rate

    @property
    def commentary(self):
        return (self.phi,)

    def start(self):
        return State((self.first,), (), ())

    def slope(self, state, step, *, create_graph, values=True):
        with torch.set_grad_enabled(create_graph):
            return Slope((self.matrix @ (state.parameters[0] - self.phi),), ())

    def update(self, state, slope, step):
        return State((state.parameters[0] - self.rate * slope.gradients[0],), (), ())

    def outer_loss(self, state):
        return 0.5 * (state.parameters[0] - self.target).square().sum()

    def double(self):
        return self

    def fixed(self):
        return self

    def shrink(self, steps):
        eye = torch.eye(len(self.target), dtype=torch.float64)
        return torch.linalg.matrix_power(eye - self.rate * self.matrix, steps)

    def last(self):
        phi = self.phi.detach()
        return phi + self.shrink(self.steps) @ (self.first - phi)

    def hypergradient(self, steps=None):
        """Exact; with ``steps`` what the last so many steps alone contribute (truncation, or Neumann terms)."""
        away = self.last() - self.target
        return away - self.shrink(self.steps if steps is None else steps) @ away


class Ridge:
    """Ridge regression with a penalty e^φ per feature, at its minimum:

    θ* = (XᵀX+D)⁻¹Xᵀy with D = diag(e^φ), dL_V/dφ = −e^φ θ* ⊙ (XᵀX+D)⁻¹ Vᵀ(Vθ*−u).
    """

    steps = 1
    affine, penalty = True, 0.0

    def __init__(self, features=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
        self.inputs, self.targets, self.held_inputs, self.held_targets = (
            draw(9, features),
            draw(9),
            draw(6, features),
            draw(6),
        )
        self.phi = draw(features).requires_grad_()

    @property
    def commentary(self):
        return (self.phi,)

    def hessian(self):
        return self.inputs.T @ self.inputs + torch.diag(self.phi.detach().exp())

    def start(self):
        return State((torch.linalg.solve(self.hessian(), self.inputs.T @ self.targets),), (), ())

    def slope(self, state, step, *, create_graph, values=True):
        (theta,) = state.parameters
        with torch.set_grad_enabled(create_graph):
            gradient = self.inputs.T @ (self.inputs @ theta - self.targets) + self.phi.exp() * theta
        return Slope((gradient,), ())

    def update(self, state, slope, step):
        return state

    def outer_loss(self, state):
        return 0.5 * (self.held_inputs @ state.parameters[0] - self.held_targets).square().sum()

    def double(self):
        return self

    def fixed(self):
        return self

    def hypergradient(self):
        (theta,) = self.start().parameters
        slope = self.held_inputs.T @ (self.held_inputs @ theta - self.held_targets)
        return -self.phi.detach().exp() * theta * torch.linalg.solve(self.hessian(), slope)


class TinyWeights(Commentary):
    """w = sigmoid(g(x, i/T)): example weights by a network, a user's own kind."""

    kind, stage = "tiny_weights", Stage.WEIGHT

    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs + 1, 1)

    def forward(self, batch, progress):
        flat = batch.inputs.flatten(1)
        age = flat.new_full((len(flat), 1), float(progress))
        return batch.weighted(torch.sigmoid(self.layer(torch.cat([flat, age], 1))).squeeze(1))

    def config(self):
        return {"inputs": self.layer.in_features - 1}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class TinyMask(Commentary):
    """One factor per input, for all examples."""

    kind, stage, at_inference = "tiny_mask", Stage.MASK, True

    def __init__(self, inputs):
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, inputs))

    def forward(self, batch, progress):
        mask = torch.sigmoid(self.logits).reshape(batch.inputs.shape[1:])
        return replace(batch, inputs=batch.inputs * mask)

    def config(self):
        return {"inputs": len(self.logits)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class TinyBlend(Commentary):
    """λ(y_a, y_b) = 1 − ½ sigmoid(Φ[y_a, y_b]) with the batch turned by one place."""

    kind, stage = "tiny_blend", Stage.BLEND

    def __init__(self, classes):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, classes * classes).reshape(classes, classes))

    def forward(self, batch, progress):
        partners = torch.arange(len(batch.targets)).roll(1 + batch.seed % 2)
        targets = batch.targets[partners]
        ratio = 1 - 0.5 * torch.sigmoid(self.table[batch.targets, targets])
        wide = ratio.reshape(-1, *[1] * (batch.inputs.ndim - 1))
        weights = None if batch.weights is None else batch.weights[partners]
        blend = Blend(targets, ratio, weights)
        return replace(batch, inputs=wide * batch.inputs + (1 - wide) * batch.inputs[partners], blend=blend)

    def config(self):
        return {"classes": len(self.table)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def smooth_student(features=6, *, norm=False, dropout=0.0):
    """An MLP without kinks, so that central differences converge."""
    layers = [nn.Flatten(), nn.Linear(features, 8)]
    layers += [nn.BatchNorm1d(8)] if norm else []
    layers += [nn.Tanh()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(8, CLASSES))


def smooth_convolutions(*, dropout=0.0):
    """Convolutions with native 2-d batch normalisation, for inputs [B, 2, 5, 5]."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout2d(dropout),
        nn.Conv2d(4, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


def training(commentaries, student, *, shape=(6,), inner=None, steps=6, batch=5, size=12, seed=0, **options):
    """A training in float64 on random examples; ``commentaries`` and ``student`` are converted."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    label = lambda count: torch.randint(0, CLASSES, (count,), generator=generator)
    settings = {"reduction": "mean", "criterion": cross_entropy, "domain": steps} | options
    return Training(
        student=student.double(),
        commentaries=tuple(one.double() for one in commentaries),
        inputs=draw(size),
        targets=label(size),
        batches=draw_batches(size, batch, steps, seed=seed),
        validation_inputs=draw(9),
        validation_targets=label(9),
        inner=inner or SGD(lr=0.2),
        **settings,
    )


def table(size=12, *, stages=1, seed=0):
    """A table of example weights that are all different."""
    one = ExampleWeights(rows=size, stages=stages)
    with torch.no_grad():
        one.logits.copy_(torch.randn(size, stages, generator=torch.Generator().manual_seed(seed)))
    return one


def outer_loss_of(problem, state):
    """L_V(θ_T(φ)) by plain training."""
    with torch.random.fork_rng():
        for step in range(problem.steps):
            state = advance(problem, state, step)
        with torch.no_grad():
            return float(problem.outer_loss(state))


def central_difference(problem, state, directions, width=1e-4):
    """The derivatives of L_V along ``directions`` in φ, each a tuple of tensors like φ; error O(width⁴)."""
    phi = problem.commentary
    kept = [p.detach().clone() for p in phi]

    def at(direction, length):
        with torch.no_grad():
            for p, k, d in zip(phi, kept, direction, strict=True):
                p.copy_(k + length * d)
        return outer_loss_of(problem, state)

    found = []
    for direction in directions:
        near = at(direction, width) - at(direction, -width)
        far = at(direction, 2 * width) - at(direction, -2 * width)
        found.append((8 * near - far) / (12 * width))
    with torch.no_grad():
        for p, k in zip(phi, kept, strict=True):
            p.copy_(k)
    return torch.tensor(found, dtype=torch.float64)


def random_directions(problem, count=4, seed=0):
    """Directions of unit length per coordinate."""
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in problem.commentary)
        for _ in range(count)
    ]


def along(value, directions):
    """⟨hypergradient, direction⟩ for each."""
    return torch.stack([sum((g * d).sum() for g, d in zip(value, one, strict=True)) for one in directions])


def relative(found, truth):
    """‖found − truth‖ / ‖truth‖ over all tensors."""
    flat = lambda tensors: torch.cat([t.double().flatten() for t in tensors])
    return float((flat(found) - flat(truth)).norm() / flat(truth).norm())


@dataclass
class Blobs:
    """Clusters with some labels wrong: ``mistaken`` bool [N] says which."""

    train: Examples
    validation: Examples
    mistaken: torch.Tensor


def blobs(size=60, trusted=18, *, wrong=0.3, seed=0, features=6):
    """Three clusters in ``features`` dimensions, a share of the training labels moved to the next class."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(CLASSES, features, generator=generator)
    labels = torch.arange(size + trusted) % CLASSES
    inputs = centres[labels] + torch.randn(size + trusted, features, generator=generator)
    keys = content_keys(inputs.numpy())
    mistaken = torch.rand(size, generator=generator) < wrong
    noisy = torch.where(mistaken, (labels[:size] + 1) % CLASSES, labels[:size])
    classes = tuple("abc")
    return Blobs(
        Examples.of(inputs[:size], noisy, keys=keys[:size], classes=classes),
        Examples.of(inputs[size:], labels[size:], keys=keys[size:], classes=classes),
        mistaken,
    )


def fresh(problem):
    """The same problem with copies of everything that a run could change."""
    return replace(
        problem, student=copy.deepcopy(problem.student), commentaries=tuple(copy.deepcopy(problem.commentaries))
    )


def single_precision(problem):
    """The same problem in float32."""
    return replace(
        problem,
        student=problem.student.float(),
        commentaries=tuple(one.float() for one in problem.commentaries),
        inputs=problem.inputs.float(),
        validation_inputs=problem.validation_inputs.float(),
    )
