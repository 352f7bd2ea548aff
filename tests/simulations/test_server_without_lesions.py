"""Real sites and a server that has neither test lesions nor public patients, as in a deployment."""

import shlex

import pytest
from flwr.app import Context, RecordDict
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

import client.app
import server.app
from client.data.splits import Role
from client.data.tables.site_table import site_table
from server.results.document import AurocSource, read_results
from shared_model.config.composition import compose
from shared_model.network.fusion import build_network
from shared_model.network.scoring import predict
from shared_model.network.state import load_trainable, trainable_state
from shared_model.vocabulary import clinical_width
from simulations.federation.local_grid import LocalGrid
from simulations.patient_roles import lesions_by_role


@pytest.mark.usefixtures("blank_pictures")
def test_its_figures_come_from_the_sites_noisy_histograms(clinical_phantom, tmp_path):
    overrides = clinical_phantom.overrides(
        tmp_path / "run",
        *("data.public_fraction=0", "data.validation_fraction=0.3", "model.image_components=0"),
        # Seeded: noise that hides the twenty validation patients, which it may, gives no threshold.
        *("evaluation.target_epsilon=800", "evaluation.dp_num_bins=20", "privacy.noise=seeded"),
    )
    run_config = {"overrides": shlex.join(overrides)}
    with LocalGrid(client.app.app, num_sites=3, num_workers=1) as grid:
        server.app.main(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config))
    results, config = read_results(tmp_path / "run" / "results.json"), compose(overrides)
    final = results.final
    assert final.auroc_source is AurocSource.SITE_HISTOGRAMS
    assert [entry.auroc for entry in results.rounds] == [None, None, final.auroc]
    arrays = load_file(tmp_path / "run" / "model.safetensors")
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    load_trainable(network, {name: arrays[name] for name in trainable_state(network)})
    test = lesions_by_role(site_table(config, None), config)[0][Role.TEST]
    truth = roc_auc_score(test.labels.numpy(), predict(network, test))
    near = 4 * final.auroc_site_histograms_noise_standard_error + final.auroc_site_histograms_error_bound
    assert abs(final.auroc - truth) <= near < 0.5
    assert 0 <= final.threshold < 1
    assert all(site.auroc is not None for site in results.sites)
