"""What a notebook shows: escaped, and rounded to the safe side."""

import accounting
from accounting import claims
from tests.support import mechanisms

_RUN = mechanisms.run(noise=4.0, prob=0.01, steps=50)


def test_releases_are_shown():
  assert "<td>noise_multiplier</td><td>4.0</td>" in _RUN._repr_html_()
  public = accounting.Public(what="<script>")
  shown = (2 * _RUN + public)._repr_html_()
  assert "50 steps, noise multiplier 4" in shown and "2 times" in shown
  assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_profiles_and_statements_are_shown():
  profile = accounting.privacy_profile(_RUN)
  bound = claims.at_most_percent(profile.tpr_at_fpr[0.01])
  assert f"<td>{bound}</td>" in profile._repr_html_()
  made = accounting.make_statement(_RUN, delta=1e-5, unit="<b>")
  shown = made._repr_html_()
  assert shown.startswith("<h4>Claim</h4><p>The run is (")
  assert "<b>" not in shown.replace("<p><b>", "")
  assert shown.count("<h4>") == len(made.sections)
