"""From YAML to a frozen, validated Scenario; the only reader of YAML."""
