#!/usr/bin/env bash
# check_wheels.sh PYTHON WORK BUNDLES: installs the built wheels outside the checkout and uses them as a user would.
set -euo pipefail
python=$1 work=$2 bundles=$3
cd "$work"

"$python" -m venv device
device/bin/python -m pip install --quiet --disable-pip-version-check "$(echo wheels/edgesdk-0*.whl)[onnx,tflite,vision]"
if "$python" -m zipfile -l wheels/edgesdk-0*.whl | grep -q edgesdk_converters; then
  echo "the device wheel carries converter code" >&2
  exit 1
fi
device/bin/python -c 'import importlib.util as u; assert u.find_spec("edgesdk_converters") is None and u.find_spec("onnx") is None'
device/bin/edgesdk profile list >/dev/null
device/bin/edgesdk doctor >/dev/null
picture=$(find "$bundles" -name '*.png' -path '*faces*' | sort | head -n 1)
device/bin/edgesdk predict "$bundles/blazeface-short.edge" "$picture" --annotate "$work/annotated.jpg" | tee "$work/predict.json"
grep -q '"faces"' "$work/predict.json"
test -s "$work/annotated.jpg"
device/bin/edgesdk predict "$bundles/ppocr-det.edge" "$picture" >/dev/null
# Without the converters, their commands say how to get them.
if device/bin/edgesdk convert model.onnx 2>"$work/convert.err"; then exit 1; fi
grep -q 'pip install edgesdk-converters' "$work/convert.err"

"$python" -m venv developer
developer/bin/python -m pip install --quiet --disable-pip-version-check --find-links wheels wheels/edgesdk-0*.whl wheels/edgesdk_converters-0*.whl
developer/bin/edgesdk models list >/dev/null
developer/bin/edgesdk convert --help >/dev/null
echo "the wheels work outside the checkout"
