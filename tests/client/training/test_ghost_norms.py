from fractions import Fraction

import pytest
import torch
from torch import nn

from client.training import ghost_norms
from client.training.ghost_norms import OuterProducts, outer_products


def naive_gradients(products, sizes):
    """Return each patient's weight and bias gradient, multiplied out."""
    rows = list(zip(products.inputs, products.gradients, strict=True))
    found, start = [], 0
    for size in sizes.tolist():
        bag = rows[start : start + size]
        found.append((sum(torch.outer(g, a) for a, g in bag), sum(g for _, g in bag)))
        start += size
    return found


def random_products(sizes, *, bias=True, width=7, outputs=3):
    generator = torch.Generator().manual_seed(0)
    count = int(sizes.sum())
    return OuterProducts(
        nn.Linear(width, outputs, bias=bias),
        torch.randn(count, width, generator=generator, dtype=torch.float64),
        torch.randn(count, outputs, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize("trains_weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_squared_lengths_are_those_of_the_gradients_multiplied_out(bias, trains_weight):
    sizes = torch.tensor([1, 24, 2, 3, 150, 1])
    products = random_products(sizes, bias=bias)
    products.layer.weight.requires_grad_(requires_grad=trains_weight)
    expected = [
        trains_weight * weight.square().sum() + bias * of_bias.square().sum()
        for weight, of_bias in naive_gradients(products, sizes)
    ]
    found = products.squared_lengths(sizes)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("outputs", [1, 40])
def test_lengths_are_those_of_the_gradients_for_narrow_and_wide_layers(outputs):
    sizes = torch.tensor([1, 24, 2, 3, 150, 1, 300])
    products = random_products(sizes, width=30, outputs=outputs)
    expected = [weight.square().sum() + bias.square().sum() for weight, bias in naive_gradients(products, sizes)]
    torch.testing.assert_close(products.squared_lengths(sizes), torch.stack(expected), rtol=1e-9, atol=1e-12)


def test_a_patient_with_ever_so_many_lesions_takes_neither_memory_nor_pairs(monkeypatch):
    """Earlier: all pairs at once, 3 GB for a patient of 20,000 rows: the process ended and told that she was there."""
    listed, pairs = [], ghost_norms._pairs_within

    def counted(*arguments):
        first, second = pairs(*arguments)
        listed.append(len(first))
        return first, second

    monkeypatch.setattr(ghost_norms, "_pairs_within", counted)
    for width, outputs in ((7, 3), (30, 40), (640, 38)):
        sizes = torch.tensor([2, 1, 700, 3])
        random_products(sizes, width=width, outputs=outputs).squared_lengths(sizes)
    # The layer of 7 times 3 entries is narrow.
    assert listed == [1 + 3, 1 + 3]


@pytest.mark.parametrize(("width", "outputs"), [(359, 1), (38, 640), (358, 8), (5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_not_a_bit_of_a_length_depends_on_who_else_is_there(width, outputs, dtype):
    """A patient whose lesions nearly cancel is all rounding: a bit would be many per cent of her clipped gradient."""
    generator = torch.Generator().manual_seed(3)
    num_rows = 256

    def rows(count):
        inputs = torch.randn(count, width, generator=generator, dtype=dtype)
        gradients = torch.randn(count, outputs, generator=generator, dtype=dtype)
        # The second lesion takes back the first one, and so on.
        inputs[1::2], gradients[1::2] = inputs[: count - 1 : 2], -gradients[: count - 1 : 2] * (1 + 1e-7)
        return inputs, gradients

    def lengths(patients):
        sizes = [len(inputs) for inputs, _ in patients]
        empty = num_rows - sum(sizes)
        columns = [
            torch.cat([*parts, torch.zeros(empty, parts[0].shape[1], dtype=dtype)])
            for parts in zip(*patients, strict=True)
        ]
        products = OuterProducts(nn.Linear(width, outputs), *columns)
        return products.squared_lengths(torch.tensor([*sizes, *[1] * empty]))[: len(sizes)]

    patients = [rows(count) for count in (2, 1, 8, 9, 10, 12, 24, 40, 2, 70)]
    everybody = lengths(patients)
    for position, patient in enumerate(patients):
        without = lengths([*patients[:position], *patients[position + 1 :]])
        assert torch.equal(without, torch.cat((everybody[:position], everybody[position + 1 :])))
        assert torch.equal(lengths([patient]), everybody[position : position + 1])


@pytest.mark.parametrize(("width", "outputs"), [(359, 1), (38, 640), (358, 8), (5, 3), (1, 2)])
def test_not_a_bit_of_a_length_depends_on_how_many_rows_follow(width, outputs):
    """Empty rows are left out, so that the last rows of a pass stand in blocks of any size, also alone."""
    products = random_products(torch.tensor([600]), width=width, outputs=outputs)
    inputs, gradients = products.inputs.float(), products.gradients.float()

    def lengths(start, sizes):
        rows = slice(start, start + sum(sizes))
        layer = nn.Linear(width, outputs, bias=False)
        return OuterProducts(layer, inputs[rows], gradients[rows]).squared_lengths(torch.tensor(sizes))

    for size in (1, 2, 3):
        everybody = lengths(0, [size] * (600 // size))
        for count in range(1, len(everybody), 7):
            assert torch.equal(lengths(0, [size] * count), everybody[:count])
            assert torch.equal(lengths(size * count, [size]), everybody[count : count + 1])


@pytest.mark.parametrize("outputs", [1, 5, 40])
def test_a_formed_length_is_never_below_the_exact_one(outputs):
    """Rows that cancel but for their last bits, against fractions of whole numbers."""
    generator, sizes = torch.Generator().manual_seed(5), torch.tensor([2, 20, 60])
    count, width = int(sizes.sum()), 12
    for _ in range(5):
        inputs = torch.randn(count, width, generator=generator)
        gradients = torch.randn(count, outputs, generator=generator)
        inputs[1::2] = inputs[::2]
        gradients[1::2] = -gradients[::2] * (1 + 1e-6 * torch.randn(count // 2, outputs, generator=generator))
        found = OuterProducts(nn.Linear(width, outputs, bias=False), inputs, gradients).squared_lengths(sizes)
        for length, rows in zip(found.tolist(), torch.arange(count).split(sizes.tolist()), strict=True):
            a, g = ([[Fraction(x) for x in row] for row in values[rows].tolist()] for values in (inputs, gradients))
            exact = sum(
                sum(g[row][i] * a[row][j] for row in range(len(rows))) ** 2
                for i in range(outputs)
                for j in range(width)
            )
            assert Fraction(length) >= exact


def test_a_patient_by_hand():
    products = OuterProducts(
        nn.Linear(2, 1), torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 4.0]]), torch.tensor([[1.0], [2.0], [-0.5]])
    )
    # Patient 1: 1 (1, 2) + 2 (3, 0) = (7, 2), bias 3. Patient 2: -0.5 (0, 4) = (0, -2), bias -0.5.
    assert products.squared_lengths(torch.tensor([2, 1])).tolist() == pytest.approx([49 + 4 + 9, 4 + 0.25])
    total = products.summed(torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64))
    assert total[products.layer.weight].tolist() == [[7.0, 1.0]]
    assert total[products.layer.bias].tolist() == [2.75]


def test_a_length_that_rounding_would_hide_is_never_too_short():
    # The patient's two lesions cancel but for one part in 10^9, below the root of float64's precision.
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        inputs = torch.randn(1, 40, generator=generator, dtype=torch.float64) * 1e6
        gap = torch.randn(1, 40, generator=generator, dtype=torch.float64) * 1e-3
        gradient = torch.randn(1, 5, generator=generator, dtype=torch.float64)
        products = OuterProducts(nn.Linear(40, 5), torch.cat([inputs, inputs + gap]), torch.cat([gradient, -gradient]))
        true_length = float(torch.outer(gradient[0], products.inputs[0] - products.inputs[1]).norm())
        assert float(products.squared_lengths(torch.tensor([2])).sqrt()) >= true_length


def test_a_factor_of_zero_silences_nan():
    products = random_products(torch.tensor([1, 2]))
    expected = products.summed(torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))
    products.inputs[1], products.gradients[2] = torch.nan, torch.inf
    found = products.summed(torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))
    for parameter in products.layer.parameters():
        assert torch.equal(found[parameter], expected[parameter])


class InPlace(nn.Module):
    """Works in place on what goes into the first layer, or on what comes out of it."""

    def __init__(self, *, on_inputs):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 1)
        self.on_inputs = on_inputs

    def forward(self, rows):
        rows = rows.clone()
        hidden = self.first(rows)
        rows.add_(1) if self.on_inputs else hidden.relu_()
        return self.second(hidden).squeeze(1)


@pytest.mark.parametrize("on_inputs", [True, False])
def test_work_in_place_would_change_what_was_recorded_and_is_refused(on_inputs):
    model = InPlace(on_inputs=on_inputs)
    with pytest.raises(RuntimeError, match="Expected nothing to be changed in place"):
        outer_products(model, lambda: model(torch.ones(6, 4)).square().sum(), num_lesions=6)


class Own(nn.Linear):
    pass


def tied():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "Expected 1 to be a linear layer, got LayerNorm"),
        (lambda: Own(4, 1), "Expected the model to be a linear layer, got Own"),
        (tied, "Expected 1 to share no parameter with another layer"),
        (lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Linear(2, 1)), "to be called with one row per lesion"),
        (lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Flatten(0, 1), nn.Linear(2, 1)), "to see 6 lesions"),
    ],
)
def test_what_ghost_norms_cannot_do_is_refused(make, message):
    model = make()
    with pytest.raises(RuntimeError, match=message):
        outer_products(model, lambda: model(torch.ones(6, 4)).sum(), num_lesions=6)


def test_a_layer_called_twice_or_never_is_refused():
    layer = nn.Linear(4, 4)
    both = nn.ModuleList([layer, nn.Linear(4, 4)])
    rows = torch.ones(6, 4)
    for model, loss in (
        (layer, lambda: layer(layer(rows)).sum()),
        (both, lambda: layer(rows).sum()),
        (both, lambda: layer(layer(rows)).sum()),
    ):
        with pytest.raises(RuntimeError, match="Expected every trainable layer to be called exactly once"):
            outer_products(model, loss, num_lesions=6)
    assert not layer._forward_hooks
