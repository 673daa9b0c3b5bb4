# Quark compiles operators of its own when it is imported, unless it finds them beside their sources. A stage could not
# keep them: its root is read-only. So they are compiled here, once, and must then load without compiling.
export TORCH_EXTENSIONS_DIR=/opt/build
mkdir /opt/build
python -c "import quark.onnx"
folder=$(python -c "import sysconfig; print(sysconfig.get_path('purelib') + '/quark/onnx/operators/custom_ops')")
suffix=$(python -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
cp /opt/build/quark_custom_ops_stable_abi/quark_custom_ops_stable_abi.so "$folder/_C$suffix"
rm -r /opt/build
QUARK_BUILD_DISABLE_JIT_FALLBACK=1 TORCH_EXTENSIONS_DIR=/nowhere python -c "import quark.onnx"
