"""The domain: counts, draft vocabularies, metrics. numpy and safetensors only."""
