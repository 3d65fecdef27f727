"""The web app: a folder of models in the browser, as a tree of steps that one inspects, prunes and goes back in.

``serving``  the server: who may ask for what
``app``      the page: panels made of views, and what they share
``desk``     how views reach the workspace, and what is kept between two requests
``rows``     what a view shows, as plain rows: functions of the workspace, without Dash
``figures``  rows to figures: pure functions, one for each kind of plot
``views``    thin callbacks; a view never imports another one
``assets``   the style sheet, and what the browser does by itself

Only the public API of ``onnxprune`` is used. Every action is a call that a command line makes as well.
"""
