"""The web app of onnxprune, on Dash: it will use the public API of the core and nothing else of it.

Version 0.1.0 holds the engine and the command line; the app arrives with a later version, and until then this
package is a place with nothing in it.
"""
