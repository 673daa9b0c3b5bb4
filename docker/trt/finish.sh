# The plugin puts links beside its libraries when it is imported, and says that sessions may crash without. No stage can
# make them: its root is read-only.
folder=$(python -c "import onnxruntime_ep_nv_tensorrt_rtx as plugin; print(plugin._module_dir)")
test -e "$folder/libtensorrt_rtx.so"
