"""placeholder"""
import typer
budget_app = typer.Typer()
