#!/usr/bin/env bash
# check_frontends.sh PYTHON WORK: the frontends whose libraries are extras, each in an environment of its own, from the checkout.
set -euo pipefail
python=$1 work=$2
cd "$(dirname "$0")/../.."

suite() { # suite EXTRA REQUIREMENT...
  local extra=$1
  shift
  "$python" -m venv "$work/frontend-$extra"
  "$work/frontend-$extra/bin/python" -m pip install --quiet --disable-pip-version-check "$@" \
    --editable '.[vision,test]' --editable "./converters[$extra]" || {
    echo "the extra $extra cannot be installed here: its frontend is not tested"
    return 0
  }
  "$work/frontend-$extra/bin/python" -m pytest -q -p no:cacheprovider tests/contract/test_frontends.py \
    tests/converters/frontends/test_factory.py "tests/converters/frontends/test_$extra.py" | tee "$work/frontend-$extra.log"
  # A library that does not import would skip everything and look fine.
  if grep -q "pip install 'edgesdk-converters\[$extra\]'" "$work/frontend-$extra.log"; then
    echo "the extra $extra was installed, but its tests skipped" >&2
    return 1
  fi
}

suite sklearn pandas # a table of named columns
suite tensorflow
case $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') in
  3.11) suite torch 'torch==2.13.0' ;; # the build without CUDA that is at hand for this Python
  *) suite torch ;;
esac
