"""TF Serving's configuration files are read as text protos."""

import pytest

from kbert.export.server.settings import BatchingParameters, read_batching_parameters, read_model_config

MODEL = 'name: "m" base_path: "/models/m" model_platform: "tensorflow"'


def test_batching_parameters(tmp_path):
    path = tmp_path / "b.txt"
    path.write_text(
        "# one\nmax_batch_size { value: 64 } batch_timeout_micros: { value: 0 }\nallowed_batch_sizes: [8, 64]\n"
        'thread_pool_name { value: "t" } enable_large_batch_splitting { value: true }'
    )
    found = read_batching_parameters(path)
    assert found == BatchingParameters(
        64, 0, thread_pool_name="t", allowed_batch_sizes=(8, 64), enable_large_batch_splitting=True
    )
    path.write_text("")
    assert read_batching_parameters(path) == BatchingParameters()
    for wrong, message in (
        ("rows: 3", "rows"),
        ("max_batch_size: 64", "b.txt"),
        ("max_batch_size { value: -1 }", "at least 1"),
    ):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=message):
            read_batching_parameters(path)


def test_a_list_of_models(tmp_path):
    path = tmp_path / "models.config"
    (tmp_path / "models" / "m").mkdir(parents=True)
    policy = 'model_version_policy { latest { num_versions: 2 } } version_labels { key: "stable" value: 1 }'
    path.write_text(f"model_config_list {{ config {{ {MODEL} {policy} }} }}")
    found = read_model_config(path)["m"]
    assert found.folder == tmp_path / "models" / "m" and found.latest == 2 and found.labels == {"stable": 1}
    path.write_text(f"model_config_list {{ config {{ {MODEL} model_version_policy {{ all {{}} }} }} }}")
    assert read_model_config(path)["m"].latest is None
    for wrong, message in (
        ("", "names no model"),
        ("models { }", "ModelServerConfig"),
        (f"model_config_list {{ config {{ {MODEL} }} config {{ {MODEL} }} }}", "a name of its own"),
        ('model_config_list { config { name: "m" base_path: "/m" } }', "model_platform"),
        (f"model_config_list {{ config {{ {MODEL} model_version_policy {{ specific {{}} }} }} }}", "names no version"),
        ('model_config_list { config { name: "m" base_path: "m" model_platform: "tensorflow" } }', "absolute"),
    ):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=message):
            read_model_config(path)
