"""Genomes: canonical form, encoding, and the sentences for wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parapet.catalogue.genes import GENES, Gene
from parapet.errors import InputError
from parapet.genome import Genome, point
from parapet.search.network_space import SearchSpace

SPACE = SearchSpace()
vectors = st.tuples(*(st.integers(0, len(gene.choices) - 1) for gene in SPACE.genes))


def test_there_are_at_least_ten_genes() -> None:
    assert len(GENES) >= 10


@given(vectors)
def test_encoding_round_trips(vector: tuple[int, ...]) -> None:
    genome = SPACE.decode(vector)
    assert SPACE.decode(SPACE.encode(genome)) == genome
    assert Genome.from_dict(genome.to_dict()) == genome


@given(vectors)
def test_normalised_vectors_are_equal_exactly_for_equal_genomes(vector: tuple[int, ...]) -> None:
    normal = SPACE.normalise(vector)
    assert SPACE.decode(normal) == SPACE.decode(vector)
    assert np.array_equal(SPACE.normalise(normal), normal)


def test_genes_without_effect_do_not_tell_genomes_apart() -> None:
    assert Genome(denoiser="none", denoiser_stage=2).digest() == Genome(denoiser="none", denoiser_stage=1).digest()
    assert Genome(loss="pgd", trades_beta=6.0).digest() == Genome(loss="pgd", trades_beta=1.0).digest()
    assert Genome(loss="trades", trades_beta=6.0).digest() != Genome(loss="trades", trades_beta=1.0).digest()


def test_digests_are_those_of_the_first_archives() -> None:
    """Training keys, seeds and the folders of a cache hang on them."""
    assert Genome().digest().startswith("087644e6d676")
    assert Genome(loss="mart", morel=0.1, backbone="vit", denoiser="mean", denoiser_stage=2).digest().startswith(
        "df261ae742b1")
    assert Genome(loss="distillation", backbone="small_cnn", label_smoothing=0.1).digest().startswith("8b424fd943a3")
    assert Genome(loss="pgd", clean_share=0.5, crafting="ensemble", gradient_alignment=1.0).digest().startswith(
        "56342a581a08")


def test_a_gene_that_is_missing_has_no_effect() -> None:
    genome = Genome(loss="trades", denoiser="none", input_filter="none", morel=0.0).canonical()
    needed = {name: value for name, value in genome.to_dict().items() if name in (
        "backbone", "width", "depth", "activation", "loss", "trades_beta", "eps_ratio", "steps", "learning_rate",
        "weight_decay")}
    assert Genome.from_dict(needed) == genome


@pytest.mark.parametrize(("missing", "sentence"), [
    (["width"], "genome lacks width; a genome names every gene that has an effect."),
    (["trades_beta", "steps"], "genome lacks trades_beta, steps; a genome names every gene that has an effect."),
    (["loss", "steps"], "genome lacks loss; a genome names every gene that has an effect."),
])
def test_a_gene_that_has_an_effect_must_be_there(missing: list[str], sentence: str) -> None:
    values = {name: value for name, value in Genome(loss="trades").to_dict().items() if name not in missing}
    with pytest.raises(InputError) as error:
        Genome.from_dict(values)
    assert str(error.value) == sentence


def test_a_gene_that_joins_later_changes_no_genome_that_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before, vector = Genome(), SearchSpace().encode(Genome())
    gene = Gene("dropout", (0.0, 0.5), True, 0.0, 0.9, neutral=0.0, added=True)
    monkeypatch.setitem(GENES._specs, "dropout", gene)
    assert Genome().digest() == before.digest() and Genome.from_dict(before.to_dict()) == before.canonical()
    assert "dropout" not in Genome().to_dict()
    other = Genome.from_dict(before.to_dict() | {"dropout": 0.5})
    assert other["dropout"] == 0.5 and other.digest() != before.digest() and str(other).endswith("dropout 0.5")
    assert Genome.from_dict(other.to_dict()) == other == other.canonical()
    assert SearchSpace().encode(before).tolist() == vector.tolist()  # and so no search takes another course
    space = SearchSpace({"dropout": [0.0, 0.5]})
    assert space.encode(before)[:-1].tolist() == vector.tolist()
    assert space.decode([*vector, 1])["dropout"] == 0.5 and space.decode([*vector, 0])["dropout"] == 0.0
    assert point(before.to_dict()) != point(other.to_dict())


def test_the_reference_network_has_one_size() -> None:
    reference = Genome(backbone="small_cnn", width=8, depth=2)
    assert reference.digest() == Genome(backbone="small_cnn", width=16, depth=1).digest()
    assert str(reference).startswith("small_cnn relu,")


def test_what_is_known_beyond_the_default_search_is_not_searched_by_default() -> None:
    assert SPACE.choices("backbone") == ("plain", "residual", "separable")
    assert SPACE.choices("activation") == ("relu", "silu")
    assert SPACE.choices("denoiser") == ("none", "mean", "median", "gaussian")
    assert SPACE.choices("denoiser_stage") == (1, 2)


WHOLE = SearchSpace({gene.name: list(gene.known) for gene in GENES.values() if gene.known} | {"width": [4, 8]})


@given(st.tuples(*(st.integers(0, len(gene.choices) - 1) for gene in WHOLE.genes)))
def test_the_whole_space_encodes_like_the_default_one(vector: tuple[int, ...]) -> None:
    genome, normal = WHOLE.decode(vector), WHOLE.normalise(vector)
    assert WHOLE.decode(normal) == genome == WHOLE.decode(WHOLE.encode(genome))
    assert np.array_equal(WHOLE.normalise(normal), normal)


def test_a_stage_that_a_backbone_of_the_space_lacks_is_told() -> None:
    with pytest.raises(InputError, match="search.space.denoiser_stage lists 3, and the backbone residual has 2 stages"):
        SearchSpace({"backbone": ["wide_resnet", "residual"], "denoiser_stage": [1, 3]})
    assert SearchSpace({"backbone": ["wide_resnet"], "denoiser_stage": [1, 3]}).choices("denoiser_stage") == (1, 3)


def test_larger_images_get_larger_networks() -> None:
    assert max(SearchSpace(image_shape=(3, 32, 32)).choices("width")) > max(SPACE.choices("width"))
    assert SearchSpace({"width": [8]}, (3, 32, 32)).choices("width") == (8,)


@pytest.mark.parametrize(("space", "sentence"), [
    ({"widht": [4]}, "search.space.widht is not a gene; did you mean width?"),
    ({"width": []}, "search.space.width is empty; list at least one choice"),
    ({"width": [4, 4]}, "search.space.width names a choice twice"),
    ({"width": [0]}, "search.space.width is 0; it must be a whole number from 1 to 1024."),
    ({"backbone": ["resdual"]}, "search.space.backbone is 'resdual'; did you mean residual?"),
])
def test_wrong_spaces_are_told(space: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSpace(space)
    assert sentence in str(caught.value)


def test_a_genome_that_lacks_a_gene_is_told() -> None:
    values = Genome().to_dict()
    del values["width"]
    with pytest.raises(InputError, match="genome lacks width; a genome names every gene"):
        Genome.from_dict(values)
