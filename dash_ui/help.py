"""The list of keys, and the tour of the bundled example; the browser opens them by itself (``assets/``)."""

from __future__ import annotations

from dataclasses import dataclass

from dash import html

__all__ = ["KEYS", "STOPS", "Stop", "keys", "tour"]

KEYS = (
    (("Ctrl", "Z"), "Undo the last change of the draft"),
    (("Ctrl", "Shift", "Z"), "Redo it"),
    (("Ctrl", "F"), "Find a layer; Enter goes to the next one"),
    (("/",), "Find a layer"),
    (("[",), "Previous group"),
    (("]",), "Next group"),
    (("m",), "Maximise the panel that you are in, or make it small again"),
    (("Esc",), "Back: closes what is open, restores a maximised panel"),
    (("?",), "This list"),
)


@dataclass(frozen=True)
class Stop:
    """One of the tour: ``target`` is pointed at, ``does`` is on its button, which presses ``press`` and waits.

    ``until``: "plan" goes on when something is in the plan (at once, where a person put it there), "step" when another
    step came out of it.
    """

    target: str
    title: str
    text: str
    does: str
    press: str
    until: str


STOPS = (
    Stop(
        ".panel-plan",
        "Choose what can go",
        """This network reads handwritten digits. Every dot is one of its filters: the further to the left, the less it
        matters. Drag the red handle, or let the tour remove 30%: what is to go turns red everywhere, and the bar at the
        top says what that saves.""",
        "Remove 30%",
        '[data-preset="30%"]',
        "plan",
    ),
    Stop(
        "#top-actions",
        "Make it smaller",
        """Apply takes the filters out of the model, checks the result, and measures it. It becomes a new step in the
        tree on the left; the original stays as it is.""",
        "Apply",
        "#top-apply",
        "step",
    ),
    Stop(
        "#top-actions",
        "Win back accuracy",
        """A network that lost so much at once makes mistakes. Fine-tuning trains it for a moment and mends that. The
        statistics on the right show both.""",
        "Fine-tune",
        "#top-fine-tune",
        "step",
    ),
)


def keys() -> html.Dialog:
    """The list of keys."""
    rows = [
        html.Div([html.Dt([html.Kbd(key) for key in combination]), html.Dd(text)], className="key-row")
        for combination, text in KEYS
    ]
    return html.Dialog(
        [
            html.Header(
                [
                    html.H2("Keys", className="title"),
                    html.Button("×", className="ghost", id="keys-close", title="Close", **{"aria-label": "Close"}),
                ],
                className="panel-head",
            ),
            html.Dl(rows, className="keys"),
            html.Footer(html.Button("Show the tour", id="keys-tour", className="plain"), className="dialog-foot"),
        ],
        id="keys",
        className="dialog",
        **{"aria-label": "Keys"},
    )


def tour() -> html.Div:
    """The stops of the tour, hidden until it begins."""
    cards = [
        html.Div(
            [
                html.P(f"{number} of {len(STOPS)}", className="tour-count"),
                html.H2(stop.title),
                html.P(stop.text),
                html.P(className="tour-status", role="status"),
                html.Div(
                    [
                        html.Button("Skip the tour", className="plain tour-skip"),
                        html.Button(stop.does, className="primary tour-next"),
                        html.Button("Done", className="primary tour-done", hidden=True),
                    ],
                    className="tour-foot",
                ),
            ],
            className="tour-card",
            hidden=True,
            role="dialog",
            **{
                "data-target": stop.target,
                "data-press": stop.press,
                "data-until": stop.until,
                "aria-label": stop.title,
            },
        )
        for number, stop in enumerate(STOPS, 1)
    ]
    return html.Div([html.Div(className="tour-light"), *cards], id="tour", className="tour", hidden=True)
