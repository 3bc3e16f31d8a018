"""The training configuration: the seed's keys, and nothing that is not understood."""

import copy

import pytest
import yaml

from pccbench.codecs.deepcompress.config import ConfigError, TrainingConfig

SEED = """
data:
  modelnet40_path: "data/modelnet40/ModelNet40_200_pc512_oct3_4k"
  ivfb_path: "data/8ivfb"
  resolution: 64
  block_size: 1.0
  min_points: 100
  augment: true
model:
  filters: 64
  activation: "cenic_gdn"
  conv_type: "separable"
  entropy_model: "hyperprior"
training:
  batch_size: 32
  epochs: 100
  learning_rates:
    reconstruction: 1.0e-4
    entropy: 1.0e-3
  focal_loss:
    alpha: 0.75
    gamma: 2.0
  checkpoint_dir: "results/models"
  mixed_precision: false
"""


def leaves(record, path=()):
    for key, value in record.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        yield (*path, key)


def test_the_published_file_is_understood():
    config = TrainingConfig.parse(yaml.safe_load(SEED))
    assert config.model.transform().activation == "cenic_gdn"
    assert config.model.entropy_models() == ("hyperprior",)
    assert config.training.learning_rates.entropy == 1e-3


@pytest.mark.parametrize("path", list(leaves(yaml.safe_load(SEED))), ids=".".join)
def test_a_misspelt_key_is_an_error_that_names_it(path):
    record = copy.deepcopy(yaml.safe_load(SEED))
    section = record
    for key in path[:-1]:
        section = section[key]
    section[path[-1] + "s_"] = section.pop(path[-1])
    with pytest.raises(ConfigError, match=r"is no key|[Rr]equired|should be") as caught:
        TrainingConfig.parse(record)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "resolution", 60),
        ("data", "min_points", 0),
        ("model", "activation", "tanh"),
        ("model", "entropy_model", "magic"),
        ("model", "strides", [2, 2]),
        ("training", "batch_size", 0),
        ("training", "rate_weights", [5.0, 1.0]),
        ("training", "epochs", -1),
    ],
)
def test_values_are_checked(section, key, value):
    record = yaml.safe_load(SEED)
    record[section][key] = value
    with pytest.raises(ConfigError, match=section):
        TrainingConfig.parse(record)


def test_what_is_not_yaml_is_one_line(tmp_path):
    (tmp_path / "c.yml").write_text("data: [")
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.read(tmp_path / "c.yml")
    assert "\n" not in str(caught.value)
