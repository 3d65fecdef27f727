"""The list of keys, and the tour of the bundled example; the browser opens them by itself (``assets/``)."""

from __future__ import annotations

from dash import html

__all__ = ["KEYS", "STOPS", "keys", "tour"]

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

# What is pointed at (a selector), a title, a text. The browser goes from one to the next.
STOPS = (
    (
        ".area-model",
        "See what can go",
        """This is a trained network for handwritten digits. Every circle is a filter: far to the left, it hardly
        matters. Drag the threshold, and what is to go turns red.""",
    ),
    (
        "#top-actions",
        "Make it smaller",
        """The bar says how much smaller the model gets. Apply removes the filters and proves that nothing else changed;
        Fine-tune wins back accuracy.""",
    ),
    (
        "#panel-history",
        "Compare and go back",
        """Every step stays in this tree with what was measured of it. Click one to look at it, go on from any of them,
        and export the one that you like best.""",
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
                html.H2(title),
                html.P(text),
                html.Div(
                    [
                        html.Button("Skip", className="plain tour-skip"),
                        html.Button("Done" if number == len(STOPS) else "Next", className="primary tour-next"),
                    ],
                    className="tour-foot",
                ),
            ],
            className="tour-card",
            hidden=True,
            role="dialog",
            **{"data-target": target, "aria-label": title},
        )
        for number, (target, title, text) in enumerate(STOPS, 1)
    ]
    return html.Div([html.Div(className="tour-light"), *cards], id="tour", className="tour", hidden=True)
