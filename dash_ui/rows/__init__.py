"""What views show, as plain rows: functions of the workspace, without Dash."""
