"""From CAM to pseudo label: functions of arrays."""
